"""ROOT files in, columns out: only the branches needed, chunk by chunk, with entry numbers.

`files` finds a sample's files, `trees` understands a tree, `names` says which column a name means,
`baskets` reads columns, `pages` looks at checksums, `streaming` applies cuts, and `memory` gives
columns that somebody has in memory as if they came from a file. Each of them ends
whatever is wrong with an input in one InputError. Friend trees are read by the same code.
"""

from utils.formats.ntuples.files import find_files
from utils.formats.ntuples.memory import given_columns
from utils.formats.ntuples.streaming import Chunk, Cut, Made, Rows, check, stream
from utils.formats.ntuples.trees import TreeInfo, cause, fingerprint, open_input, open_tree

__all__ = [
    "Chunk",
    "Cut",
    "Made",
    "Rows",
    "TreeInfo",
    "cause",
    "check",
    "find_files",
    "fingerprint",
    "given_columns",
    "open_input",
    "open_tree",
    "stream",
]

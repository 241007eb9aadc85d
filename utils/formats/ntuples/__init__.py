"""ROOT files in, columns out: only the branches needed, chunk by chunk, with entry numbers.

`files` finds a sample's files, `trees` understands a tree, `baskets` reads its columns and
`streaming` applies cuts. Each of them ends whatever is wrong with an input in one InputError.
"""

from utils.formats.ntuples.files import find_files
from utils.formats.ntuples.streaming import Chunk, Rows, check, stream
from utils.formats.ntuples.trees import TreeInfo, fingerprint, open_tree

__all__ = [
    "Chunk",
    "Rows",
    "TreeInfo",
    "check",
    "find_files",
    "fingerprint",
    "open_tree",
    "stream",
]

"""docs/new_analysis.md as its reader follows it: after its edits, commands write what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from one_process import run_commands, succeed
from real_data import DATA
from workspaces import Workspace

from utils.schema import PROJECT

CMS = DATA / "cms_htt_skim"
PAGE = (PROJECT / "docs/new_analysis.md").read_text(encoding="utf-8")
STEPS = PAGE.split("## Walk-through")[1].split("## How it is written")[0].split("\n### ")[1:]
COMMAND = re.compile(r"^    python ((?:.*\\\n)*.*)$", re.MULTILINE)
SHOWN = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.]*\w)")

pytestmark = pytest.mark.skipif(
    not CMS.is_dir(), reason=f"the CMS open data are not in {DATA}: name their folder as HEP_DATA"
)


def steps() -> list[tuple[str, str]]:
    """Return the page's commands in order, each with what the page shows of its output."""
    pairs: list[tuple[str, str]] = []
    for step in STEPS:
        begins = [(m.start(), m[1]) for m in COMMAND.finditer(step)]
        for number, (begin, command) in enumerate(begins):
            end = begins[number + 1][0] if number + 1 < len(begins) else len(step)
            pairs.append((command, "".join(SHOWN.findall(step[begin:end]))))
    return pairs


def edit(path: Path) -> None:
    """Make the page's edits in the starting file."""
    step = next(step for step in STEPS if step.startswith("2."))
    classes, selection = re.findall(r"^```yaml\n(.*?)^```", step, re.MULTILINE | re.DOTALL)
    cuts, samples = selection.split("\n\n")
    text = path.read_text(encoding="utf-8")
    for old, new in (
        (r"^class_to_info:\n(?:  .*\n)+signal_classes: .*\n", classes),
        (r"^cuts: .*\ncommon_cut: .*\n", f"{cuts}\n"),
        (r"^training_samples:\n(?:  - .*\n)+", samples),
        *(
            (rf"^  - {name} .*\n", "")
            for name in re.findall(r"`(\w+)`", step.split("no information:")[1].split(".")[0])
        ),
    ):
        text, n = re.subn(old, lambda _, new=new: new, text, flags=re.MULTILINE)
        assert n == 1, old
    path.write_text(text, encoding="utf-8")


def same(shown: str, said: str) -> bool:
    """Tell whether a line is what was written: counts exactly, other numbers within 0.0005."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", said):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(said), strict=True)
    return all(
        ours == theirs
        if "." not in theirs
        else float(ours) == pytest.approx(float(theirs), 1e-6, 5e-4)
        for ours, theirs in pairs
    )


def test_the_page_shows_what_its_commands_write(shared_workspace: Workspace) -> None:
    folder = shared_workspace.folder
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "cms_htt").symlink_to(CMS)
    (folder / "configs/analysis/my_channel.yaml").unlink(missing_ok=True)
    pairs = steps()
    commands = []
    for command, _ in pairs:
        words = shlex.split(command.replace("\\\n", " ").replace("RUN_ID", "RUN"))
        script, *arguments = words[1:] if words[0] == "-m" else words
        files = {word: sorted(folder.glob(word)) for word in arguments if "*" in word}
        typed = [[str(p) for p in files[w]] if w in files else [w] for w in arguments]
        commands.append((script, *(word for words in typed for word in words)))
    first = run_commands(folder, commands[:1])
    succeed(first)
    edit(folder / "configs/analysis/my_channel.yaml")
    results = [*first, *run_commands(folder, commands[1:])]
    succeed(results)
    for (command, shown), (_, said) in zip(pairs, results, strict=True):
        wrote = re.sub(r"\b[0-9a-f]{32}\b", "RUN_ID", said.replace(f"{folder}/", ""))
        lines = [re.sub(r"\d+\.\d s\b", "a few s", line) for line in wrote.splitlines()]
        for line in shown.splitlines():
            expected = re.sub(r"\d+\.\d s\b", "a few s", line)
            if expected == "...":
                continue
            assert any(same(expected, one) for one in lines), f"{command}\n{line}\n{said}"

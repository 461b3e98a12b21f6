"""A lock on what stages put out: whoever changes their code is asked about their versions.

A stage's ``VERSION`` is in the fingerprint of what it makes and is raised by hand. The lock holds,
for every version, a digest of the code that it stands for: the module that decides the output and
all that this module imports, without comments, docstrings and formatting. Where a digest is not
that of the lock, somebody has to say that the output is the same, or to raise the version.

``python -m tests.version_lock`` shows what differs; ``--confirm`` writes the lock anew.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.code_digest import code_digest, digest_text, logic_of_settings
from tests.source_tree import ROOT, import_graph, module_files, parsed

LOCK_FILE = Path(__file__).with_name("versions.lock.json")
VERSION = re.compile(r"([A-Z]+_)*VERSION")
"""Names of constants that are versions, at the top of a module."""
ADVICE = """
Can the output of a stage above be another now, for the same settings and inputs? Then raise its
version. Then, or if the output is the same, run `python -m tests.version_lock --confirm`. Whether
it is the same, tests/whole_chain/test_fast_paths.py says, or the tables of two runs side by side.
"""


@dataclass(frozen=True)
class Rules:
    """What is locked. Modules are named by patterns, in which ``*`` also stands for dots.

    Attributes:
        stands_for: Version constant, by its name or its full name → the modules that decide the
            output, where it is not the one that holds the constant, or not that one alone. A
            pattern leaves out modules with a version of their own: they are locked by that.
        formats: Version constants that are in no fingerprint.
        deciding_nothing: Modules that cannot decide an output → why. Neither they nor what they
            import belong to a stage that imports them.
        settings: Modules of settings: what their fields hold is in the fingerprints, so that only
            what they compute is locked.
    """

    stands_for: Mapping[str, Sequence[str]] = field(default_factory=dict)
    formats: Sequence[str] = ()
    deciding_nothing: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()

    def patterns(self) -> Iterator[str]:
        """Every pattern of module names."""
        yield from (pattern for found in self.stands_for.values() for pattern in found)
        yield from (*self.deciding_nothing, *self.settings)


SHOWS = "shows what stages made; no stage reads it"
LAYS_OUT = "chooses stages and gives them settings and inputs, all of which their fingerprints hold"

RULES = Rules(
    stands_for={
        "dcsp.training.stage.VERSION": (
            "dcsp.training.*",
            "dcsp.methods.*.loss",  # reach the training as recipes
            "dcsp.methods.*.network",
            "dcsp.methods.*.recipe",
            "dcsp.networks.*",
        ),
        "dcsp.inference.table.VERSION": (
            "dcsp.inference.table",
            "dcsp.cues.published",  # reaches the stage as its rule
        ),
        "EVALUATION_VERSION": ("dcsp.evaluation.*",),
        "PACK_VERSION": (
            "dcsp.corpus.pack",
            "dcsp.corpus.ingest",  # the listing's name, which holds the version, finds a snapshot
            "dcsp.corpus.sources.folder",  # sources reach the packer as arguments
            "dcsp.corpus.sources.parquet",
            "dcsp.corpus.sources.voc",
            "dcsp.corpus.sources.webdataset",
        ),
        "LISTING_VERSION": (
            "dcsp.corpus.sources.shards",
            "dcsp.corpus.sources.parquet",
            "dcsp.corpus.sources.webdataset",
        ),
    },
    formats=("SNAPSHOT_VERSION",),
    deciding_nothing={
        "dcsp": "holds the version of the package",
        "dcsp.evaluation.trust_fit": "fits weights, which the fingerprint of trust holds",
        "dcsp.errors": "says what went wrong",
        "dcsp.progress": "says how far a stage is",
        "dcsp.telemetry": "tells operators of numbers",
        "dcsp.config.publishing": "says what is published, and who is told",
        "dcsp.config.file": "reads settings, which the fingerprints hold",
        "dcsp.store.*": "gives back the bytes that were written",
        "dcsp.tables.fingerprint": "names outputs: computed otherwise, it names others",
        "dcsp.tables.layout": "names files: what has another name now is made anew",
        "dcsp.stages.libraries": "tells of versions of libraries",
        "dcsp.stages.statuses": "counts rows",
        "dcsp.stages.step": LAYS_OUT,
        "dcsp.corpus.sources.open": LAYS_OUT,
        "dcsp.corpus.unknown_tags": "says which tags meant no class",
        "dcsp.networks.fetch": "gives files whose sha256 the fingerprints hold",
        "dcsp.training.logs": "tells of losses",
        "dcsp.methods.base": LAYS_OUT,
        "dcsp.methods.dcsp": LAYS_OUT,
        "dcsp.methods.registry": LAYS_OUT,
        "dcsp.methods.selftags": LAYS_OUT,
        "dcsp.methods.shared": LAYS_OUT,
        "dcsp.methods.*.method": LAYS_OUT,
        "dcsp.run.*": LAYS_OUT,
        "dcsp.report.*": SHOWS,
        "dcsp.comparison.*": SHOWS,
        "dcsp.capacity.*": "says what a run would take",
        "dcsp.inspection.*": SHOWS,
        "dcsp.exports.*": SHOWS,
        "dcsp.review.*": SHOWS,
        "dcsp.upkeep.*": "removes files, and blanks rows that no table is made of again",
        "dcsp.__main__": SHOWS,
        "dcsp.config.explain": SHOWS,
        "dcsp.cli.*": SHOWS,
    },
    settings=("dcsp.config.*",),
)


@dataclass(frozen=True)
class Stage:
    """One version and the code that it stands for.

    Attributes:
        version: Its value.
        digest: Of the modules and their names.
        modules: Those that decide the output.
    """

    version: Any
    digest: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """All versions at one moment.

    Attributes:
        stages: Full name of the version constant → what it stands for.
        modules: Module → digest of its code; those of any stage.
    """

    stages: Mapping[str, Stage]
    modules: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Lock:
        """The lock in a file."""
        tree = json.loads(path.read_text(encoding="utf-8"))
        stages = {
            name: Stage(told["version"], told["digest"], tuple(told["modules"]))
            for name, told in tree["stages"].items()
        }
        return cls(stages, tree["modules"])

    def write(self, path: Path) -> None:
        """Keep the lock in a file: sorted, one thing a line, for the sake of its diffs."""
        stages = {name: vars(stage) for name, stage in self.stages.items()}
        tree = {"modules": self.modules, "stages": stages}
        path.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Tree:
    """The code as it is now.

    Attributes:
        root: Directory of the package.
        package: Its name.
        rules: What is locked.
    """

    root: Path
    package: str
    rules: Rules

    def lock(self) -> Lock:
        """The lock that fits the code."""
        stages = {name: self._stage(name) for name in self.versions}
        used = {module for stage in stages.values() for module in stage.modules}
        return Lock(stages, {module: self.code[module] for module in sorted(used)})

    def unlocked(self) -> list[str]:
        """Modules that belong to no stage although no rule says that they decide nothing."""
        return sorted(self.code.keys() - self.lock().modules.keys())

    def idle_rules(self) -> list[str]:
        """Patterns that no module matches, and version constants that no module holds."""
        held = {name for found in self._all_versions.values() for name in found} | {*self.versions}
        patterns = {p for p in self.rules.patterns() if not any(_means(p, m) for m in self.files)}
        return sorted(patterns | ({*self.rules.stands_for, *self.rules.formats} - held))

    @cached_property
    def files(self) -> dict[str, Path]:
        """Module → file."""
        return module_files(self.root, [self.package])

    @cached_property
    def versions(self) -> dict[str, Any]:
        """Full name of every version constant that is in a fingerprint → its value."""
        return {
            f"{module}.{name}": value
            for module, found in self._all_versions.items()
            for name, value in found.items()
            if name not in self.rules.formats
        }

    @cached_property
    def code(self) -> dict[str, str]:
        """Module → digest of its code; those that decide nothing or hold no code are left out."""
        digests = {}
        for module, path in self.files.items():
            body = [node for node in parsed(path).body if not version_set_by(node)]
            if _mean(self.rules.settings, module):
                body = logic_of_settings(body)
            digest = code_digest(body)
            if digest and not _mean(self.rules.deciding_nothing, module):
                digests[module] = digest
        return digests

    @cached_property
    def _all_versions(self) -> dict[str, dict[str, Any]]:
        return {module: dict(_versions(parsed(path))) for module, path in self.files.items()}

    @cached_property
    def _graph(self) -> dict[str, set[str]]:
        return import_graph(self.files)

    def _stage(self, name: str) -> Stage:
        modules = tuple(sorted(self._closure(self._roots(name))))
        code = [[module, self.code[module]] for module in modules]
        return Stage(self.versions[name], digest_text(json.dumps(code)), modules)

    def _roots(self, name: str) -> set[str]:
        """The modules that a version stands for, before what they import."""
        home, constant = name.rsplit(".", 1)
        stands_for = self.rules.stands_for
        patterns = stands_for.get(name) or stands_for.get(constant)
        if patterns is None:
            return {home}
        others = {other.rsplit(".", 1)[0] for other in self.versions} - {home}
        found = {module for module in self.files if _mean(patterns, module)}
        return found - (others - {*patterns})  # one that is named in full stays

    def _closure(self, roots: set[str]) -> set[str]:
        """Modules and all they import, as far as those can decide something."""
        seen: set[str] = set()
        waiting = [*roots]
        while waiting:
            module = waiting.pop()
            if module not in seen and not _mean(self.rules.deciding_nothing, module):
                seen.add(module)
                waiting.extend(self._graph[module])
        return seen & self.code.keys()


def version_set_by(node: ast.stmt) -> str | None:
    """The name of the version that a statement at the top of a module sets."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        return name if VERSION.fullmatch(name) else None
    return None


def _versions(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        name = version_set_by(node)
        if name and isinstance(node, ast.Assign):
            yield name, ast.literal_eval(node.value)


def _means(pattern: str, module: str) -> bool:
    """Whether a pattern means a module; ``package.*`` means the package as well."""
    return module == pattern.removesuffix(".*") or fnmatchcase(module, pattern)


def _mean(patterns: Iterable[str], module: str) -> bool:
    return any(_means(pattern, module) for pattern in patterns)


def differences(locked: Lock, now: Lock) -> list[str]:
    """What is not as in the lock: versions that the same modules changed stand together."""
    told = [f"{name} is new" for name in sorted(now.stages.keys() - locked.stages.keys())]
    told += [f"{name} is gone" for name in sorted(locked.stages.keys() - now.stages.keys())]
    together: dict[str, list[str]] = {}
    for name in sorted(now.stages.keys() & locked.stages.keys()):
        before, after = locked.stages[name], now.stages[name]
        is_kept = before.version == after.version
        if is_kept and before.digest == after.digest:
            continue
        became = f"is still {after.version}" if is_kept else f"{before.version} → {after.version}"
        together.setdefault(_changes(name, locked, now), []).append(f"{name} {became}")
    return told + ["\n".join(names) + changes for changes, names in together.items()]


def _changes(stage: str, locked: Lock, now: Lock) -> str:
    """How the modules of a stage differ from those of the lock, each on a line of its own."""
    before, after = {*locked.stages[stage].modules}, {*now.stages[stage].modules}
    changed = {name for name in before & after if locked.modules[name] != now.modules[name]}
    lines = [f"\n    {name} changed" for name in sorted(changed)]
    lines += [f"\n    {name} is used now" for name in sorted(after - before)]
    return "".join(lines + [f"\n    {name} is no longer used" for name in sorted(before - after)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Show what differs from the lock, or write it anew.

    Returns:
        1 where something differs and is not confirmed.
    """
    parser = argparse.ArgumentParser("python -m tests.version_lock")
    parser.add_argument(
        "--confirm",
        action="store_true",
        help="write the lock: the output is the same, or the version was raised",
    )
    confirm = parser.parse_args(arguments).confirm
    now = Tree(ROOT, "dcsp", RULES).lock()
    locked = Lock.read(LOCK_FILE) if LOCK_FILE.exists() else Lock({}, {})
    found = differences(locked, now)
    print("\n".join(found) or f"All {len(now.stages)} versions are as they are locked.")
    if confirm:
        now.write(LOCK_FILE)
        print(f"Locked: {len(now.stages)} versions, {len(now.modules)} modules.")
    elif found:
        print(ADVICE)
    return 1 if found and not confirm else 0


if __name__ == "__main__":
    raise SystemExit(main())

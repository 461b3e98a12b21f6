"""The lock of versions: that it fits the code, and that it tells what it should of a small tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import version_lock
from tests.source_tree import ROOT
from tests.version_lock import ADVICE, LOCK_FILE, RULES, Lock, Rules, Tree, differences

STAGE = '''
"""A stage."""

from shop.middle import double
from shop.progress import tell
from shop.settings import Settings

VERSION = 2


def run(settings: Settings, value: int) -> int:
    """Do it."""
    tell("running")
    return double(value) + int(settings.is_large)
'''
FILES = {
    "__init__": "",
    "stage": STAGE,
    "middle": "def double(x):\n    from shop.deep import FACTOR\n\n    return FACTOR * x\n",
    "deep": "FACTOR = 2\n",
    "progress": "import shop.aside\n\n\ndef tell(text):\n    print(text)\n",
    "aside": "NOBODY_ASKS = 1\n",
    "settings": (
        "class Settings:\n    size: int = 1\n\n    @property\n"
        "    def is_large(self):\n        return self.size > 10\n"
    ),
}
SHOP_RULES = Rules(
    deciding_nothing={"shop.progress": "shows", "shop.aside": "shows"},
    settings=("shop.settings",),
)
NAME = "shop.stage.VERSION"


class Shop:
    """A package of five modules, of which one is a stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "shop").mkdir()
        for module, text in FILES.items():
            self.write(module, text)
        self.locked = self.tree().lock()

    def write(self, module: str, text: str) -> None:
        (self.root / "shop" / f"{module}.py").write_text(text, encoding="utf-8")

    def replace(self, module: str, old: str, new: str) -> None:
        path = self.root / "shop" / f"{module}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        self.write(module, text.replace(old, new))

    def tree(self, rules: Rules = SHOP_RULES) -> Tree:
        return Tree(self.root, "shop", rules)

    def differences(self) -> list[str]:
        return differences(self.locked, self.tree().lock())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_versions_fit_the_code() -> None:
    found = differences(Lock.read(LOCK_FILE), Tree(ROOT, "dcsp", RULES).lock())
    assert not found, "not as in the lock:\n" + "\n".join(found) + "\n" + ADVICE


def test_all_code_belongs_to_a_stage_or_decides_nothing() -> None:
    unlocked = Tree(ROOT, "dcsp", RULES).unlocked()
    assert not unlocked, (
        "no version stands for these: name them in RULES of tests/version_lock.py, in stands_for "
        f"of the version whose output they decide, or in deciding_nothing: {unlocked}"
    )


def test_all_rules_are_about_something() -> None:
    idle = Tree(ROOT, "dcsp", RULES).idle_rules()
    assert not idle, f"take them out of RULES of tests/version_lock.py: {idle}"


def test_a_stage_is_what_it_imports_directly_or_not(shop: Shop) -> None:
    assert set(shop.locked.stages) == {NAME}
    assert shop.locked.stages[NAME].version == 2
    assert shop.locked.stages[NAME].modules == (
        "shop.deep",
        "shop.middle",
        "shop.settings",
        "shop.stage",
    )


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage", "return double(value)", "# twice\n    return double(value)"),
        ("stage", "    return double(value) +", "    return (\n        double(value))+"),
        ("stage", '"""Do it."""', '"""Do it well."""'),
        ("stage", '"""A stage."""', ""),
        ("stage", "value: int) -> int", "value: float) -> float"),
        ("deep", "FACTOR = 2", 'FACTOR = 2\n"""How much."""'),
        ("settings", "size: int = 1", "size: int = 3\n    other: int = 4"),
        ("progress", "print(text)", "print(text, flush=True)"),
        ("aside", "1", "2"),
    ],
)
def test_layout_docs_settings_and_what_decides_nothing_change_nothing(
    shop: Shop, module: str, old: str, new: str
) -> None:
    shop.replace(module, old, new)
    assert shop.tree().lock() == shop.locked


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage", "+ int(", "- int("),
        ("middle", "FACTOR * x", "x * FACTOR"),
        ("deep", "2", "2.0"),  # two imports away
        ("settings", "> 10", ">= 10"),
    ],
)
def test_code_changes_the_digest(shop: Shop, module: str, old: str, new: str) -> None:
    shop.replace(module, old, new)
    assert shop.differences() == [f"{NAME} is still 2\n    shop.{module} changed"]


def test_a_raised_version_alone_is_told(shop: Shop) -> None:
    shop.replace("stage", "VERSION = 2", "VERSION = 3")
    assert shop.differences() == [f"{NAME} 2 → 3"]
    assert shop.tree().lock().modules == shop.locked.modules


def test_a_raised_version_is_to_be_confirmed_with_its_code(shop: Shop) -> None:
    shop.replace("stage", "VERSION = 2", "VERSION = 3")
    shop.replace("deep", "2", "5")
    assert shop.differences() == [f"{NAME} 2 → 3\n    shop.deep changed"]


def test_modules_that_come_and_go_are_told(shop: Shop) -> None:
    shop.write("other", "FACTOR = 2\n")
    shop.replace("middle", "shop.deep", "shop.other")
    assert shop.differences() == [
        f"{NAME} is still 2\n    shop.middle changed\n    shop.other is used now\n"
        "    shop.deep is no longer used"
    ]


def test_stages_that_come_and_go_are_told(shop: Shop) -> None:
    shop.write("new", "FIRST_VERSION = 1\n\n\ndef run():\n    pass\n")
    shop.replace("stage", "VERSION = 2", "")
    assert shop.differences() == ["shop.new.FIRST_VERSION is new", f"{NAME} is gone"]


def test_stages_that_the_same_change_touches_are_told_together(shop: Shop) -> None:
    shop.write("second", "from shop.deep import FACTOR\n\nVERSION = 1\nprint(FACTOR)\n")
    shop.locked = shop.tree().lock()
    shop.replace("deep", "2", "3")
    assert shop.differences() == [
        f"shop.second.VERSION is still 1\n{NAME} is still 2\n    shop.deep changed"
    ]


@pytest.mark.parametrize("name", ["PLAN_VERSION", "shop.plan.PLAN_VERSION"])
def test_a_version_may_stand_for_other_modules(shop: Shop, name: str) -> None:
    shop.write("plan", "import shop.stage\n\nPLAN_VERSION = 1\n")
    rules = Rules({name: ("shop.a*", "shop.s*")}, settings=("shop.settings",))
    assert not shop.tree(rules).idle_rules()
    modules = shop.tree(rules).lock().stages["shop.plan.PLAN_VERSION"].modules
    assert modules == ("shop.aside", "shop.settings")  # the stage has a version of its own


def test_code_without_a_stage_and_rules_without_code_are_found(shop: Shop) -> None:
    shop.write("forgotten", "def run():\n    return 1\n")
    assert shop.tree().unlocked() == ["shop.forgotten"]
    assert shop.tree().idle_rules() == []
    rules = Rules({"NO_VERSION": ("shop.stage",)}, deciding_nothing={"shop.gone.*": "it is gone"})
    assert shop.tree(rules).idle_rules() == ["NO_VERSION", "shop.gone.*"]


def test_a_lock_is_read_as_it_was_written(shop: Shop, tmp_path: Path) -> None:
    shop.locked.write(tmp_path / "lock.json")
    assert Lock.read(tmp_path / "lock.json") == shop.locked


def test_the_command_confirms_and_then_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(version_lock, "LOCK_FILE", tmp_path / "lock.json")
    assert version_lock.main([]) == 1
    assert "is new" in capsys.readouterr().out
    assert version_lock.main(["--confirm"]) == 0
    assert version_lock.main([]) == 0
    assert "as they are locked" in capsys.readouterr().out

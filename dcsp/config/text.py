"""What a user writes: YAML whose scalars stay text, the value of an override, a path.

What a text means is said by the setting that it is for: ``no`` is a class name in
``corpus.classes`` and false in ``predict.crf``; ``010`` is ten, or the name of a folder.
"""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from dcsp.errors import ConfigError

_TEXT, _NULL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))
_WITHOUT_ORDER = tuple(f"tag:yaml.org,2002:{name}" for name in ("set", "omap", "pairs"))
_CLOSING = {"[": "]", "{": "}", "'": "'", '"': '"'}
_VARIABLE = re.compile(r"(?:^|/)(\$\w+|\$\{\w+\})")


class _Loader(yaml.SafeLoader):
    """Plain scalars stay text, but for nulls and merge keys; a key is in a mapping once."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as its base has it
        first: [known for known in resolvers if known[0] in (_NULL, _MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012  # the order of a set is another one in each process
        tag: made
        for tag, made in yaml.SafeLoader.yaml_constructors.items()
        if tag not in _WITHOUT_ORDER
    }

    def compose_sequence_node(self, anchor: Any) -> Any:
        node = super().compose_sequence_node(anchor)
        node.value = [_with_its_text(item) for item in node.value]
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        node.value = [(_with_its_text(key), value) for key, value in node.value]
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in first:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is there twice, first in line {first[key.value]}: "
                    "write it once",
                    problem_mark=key.start_mark,
                )
            first[key.value] = line
        return node


def read_yaml(text: str) -> Any:
    """Mappings, lists, texts and ``None`` of a YAML document.

    Raises:
        ValueError: It is none, or a mapping has a key twice; says why in one line.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(_reason(error)) from error
    except RecursionError as error:
        raise ValueError("its lists or mappings lie too deep in one another") from error


def read_value(text: str) -> Any:
    """The value of ``key=value``: the text as it stands, without spaces around it.

    What begins with a bracket or brace is a YAML list or mapping, what stands between quotes a
    YAML text; ``null`` is none.

    Raises:
        ValueError: It is empty, or such YAML is not valid; says why in one line.
    """
    text = text.strip()
    if not text:
        raise ValueError("it is empty: write null for none")
    closing = _CLOSING.get(text[0])
    is_closed = len(text) > 1 and text[-1] == closing
    if text[0] in "[{" and not is_closed:
        raise ValueError(f"it must end in {closing}, as it begins with {text[0]}")
    if is_closed:
        return read_yaml(text)
    return None if text.lower() == "null" else text


def user_path(path: str) -> str:
    """A path or URL with the home folder in the place of ``~`` and ``~name``.

    Variables are left to the shell: a run says where it reads and writes.

    Raises:
        ConfigError: There is no such home folder, or a part of the path is a variable.
    """
    if variable := _VARIABLE.search(path):
        raise ConfigError(
            f"The path {path} holds the variable {variable[1]}, which is not looked up: write it "
            "out, or let the shell do it."
        )
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ConfigError(
            f"The path {path} names a home folder that is not known: write it out, or ./{path} "
            "where ~ is part of a name."
        )
    return expanded


def _with_its_text(node: Any) -> Any:
    """A null that names something, as a key or in a list, is the text that it was written as."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _NULL:
        return node
    return yaml.ScalarNode(_TEXT, node.value, node.start_mark, node.end_mark)


def _reason(error: yaml.YAMLError) -> str:
    """What PyYAML says, in one line, with the lines of the text that it speaks of."""
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem_mark:
        return " ".join(str(error).split())
    told = f"line {error.problem_mark.line + 1}: {error.problem}"
    if error.context and error.context_mark:
        told += f" ({error.context} in line {error.context_mark.line + 1})"
    return " ".join(told.split())

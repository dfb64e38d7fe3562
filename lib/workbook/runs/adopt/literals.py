"""A config of others read as data: assignments of numbers, words, lists and dict(...). Whatever else stands in it would be code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from workbook.runs.adopt.errors import AdoptError

ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
WHOLE = ("give the config that mmdet itself wrote into the work_dir when the training began: it holds the whole, and nothing but data")


def read_literals(text: str, name: str) -> dict[str, Any]:
    """The values that the text assigns, in its order. name: what the text is called in messages.

    Raises AdoptError, with the line, for anything that would have to be run.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise AdoptError(f"{name} is no config in Python's notation ({error}): {WHOLE}") from None
    values: dict[str, Any] = {}
    for statement in body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # words about the config
        if not isinstance(statement, ast.Assign) or len(statement.targets) > 1 or not isinstance(statement.targets[0], ast.Name):
            raise AdoptError(f"{name}, line {statement.lineno}: {_shown(statement)} is code, which is never run here: {WHOLE}")
        try:
            values[statement.targets[0].id] = _value(statement.value, values)
        except _Code as code:
            raise AdoptError(f"{name}, line {code.node.lineno}: {_shown(code.node)} is code, which is never run here: {WHOLE}") from None
    return values


class _Code(Exception):
    def __init__(self, node: ast.expr) -> None:
        super().__init__()
        self.node = node


def _shown(node: ast.AST) -> str:
    words = ast.unparse(node)
    return words if len(words) <= 60 else f"{words[:57]}..."


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Tuple():
            return tuple(_value(part, values) for part in node.elts)
        case ast.List():
            return [_value(part, values) for part in node.elts]
        case ast.Dict() if all(key is not None for key in node.keys):
            return {_value(key, values): _value(part, values) for key, part in zip(node.keys, node.values, strict=True) if key is not None}
        case ast.Call(func=ast.Name("dict"), args=[]) if all(keyword.arg for keyword in node.keywords):
            return {str(keyword.arg): _value(keyword.value, values) for keyword in node.keywords}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            number = _number(node.operand, values)
            return -number if isinstance(node.op, ast.USub) else number
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            try:
                return ARITHMETIC[type(node.op)](_number(node.left, values), _number(node.right, values))
            except ZeroDivisionError:
                raise _Code(node) from None
        case ast.Name() if node.id in values:  # assigned above
            return values[node.id]
    raise _Code(node)


def _number(node: ast.expr, values: Mapping[str, Any]) -> Any:
    value = _value(node, values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Code(node)
    return value

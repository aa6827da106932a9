"""What a template says the same way for every reader of one language is worked out when it is compiled, not at every page.

`_('Save')`, `icon('check')` and `static('core/qanun.css')` with nothing but constants become part of the template's text: on
a chart that is two hundred calls a page. It changes no template and no output, and knows only functions that always give
the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

#: For one template (its name): function name → what it gives for constant arguments.
Constants = Callable[[str], Mapping[str, Callable[..., Any]]]


class FoldingEnvironment(jinja2.Environment):
    """An environment of one language; `constants(template_name)` are the functions to be worked out while compiling."""

    constants: Constants | None = None

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """A plain dict: every part of a page copies it, and Jinja's chain of maps is slow to walk. Ours never changes."""
        return {**self.globals, **(d or {})}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if self.constants is not None and name is not None:
            _Fold(self.constants(name)).visit(tree)
        return tree


class _Fold(NodeTransformer):
    def __init__(self, known: Mapping[str, Callable[..., Any]]) -> None:
        self.known = known

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802 - the visitor finds it by this name
        self.generic_visit(node)
        function = self.known.get(node.node.name) if isinstance(node.node, nodes.Name) else None
        plain = not (node.kwargs or node.dyn_args or node.dyn_kwargs)
        if function is None or not plain or not all(isinstance(one, nodes.Const) for one in node.args):
            return node
        value = function(*(one.value for one in node.args if isinstance(one, nodes.Const)))
        return nodes.Const(value, lineno=node.lineno)


def as_written(text: str) -> Markup:
    """A translated sentence as Jinja's own gettext gives it: markup, with `%%` for a percent sign."""
    return Markup(text) % {}  # noqa: S704 - catalogues are part of the product, and templates have always trusted them

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
from jinja2.compiler import CodeGenerator, Frame
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

#: For one template (its name): function name → what it gives for constant arguments.
Constants = Callable[[str], Mapping[str, Callable[..., Any]]]


class _DirectCalls(CodeGenerator):
    """Calls our own plain functions as such. Jinja asks of every function at every call whether it wants the context."""

    def visit_Call(  # noqa: N802 - the visitor finds it by this name
        self, node: nodes.Call, frame: Frame, forward_caller: bool = False
    ) -> None:
        known: frozenset[str] = getattr(self.environment, "plain", frozenset())
        plain = isinstance(node.node, nodes.Name) and node.node.name in known and not self.environment.sandboxed
        if not plain or forward_caller or node.dyn_args or node.dyn_kwargs:
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        self.visit(node.node, frame)
        self.write("(")
        for argument in (*node.args, *node.kwargs):
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")


class FoldingEnvironment(jinja2.Environment):
    """An environment of one language; `constants(template_name)` are the functions to be worked out while compiling.

    `plain` names the globals that are ordinary functions: they want neither Jinja's context nor its environment, and no
    template uses their name for something else.
    """

    constants: Constants | None = None
    plain: frozenset[str] = frozenset()
    code_generator_class = _DirectCalls

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
        name = node.node.name if isinstance(node.node, nodes.Name) else ""
        function = self.known.get(name)
        if function is None or node.dyn_args or node.dyn_kwargs:
            return node
        if not all(isinstance(one, nodes.Const) for one in node.args):
            return node
        if node.kwargs:
            return node if name not in _SENTENCES else self._filled_in(node)
        value = function(*(one.value for one in node.args if isinstance(one, nodes.Const)))
        return nodes.Const(value, lineno=node.lineno)

    def _filled_in(self, node: nodes.Call) -> nodes.Node:
        """`_('Take back %(entry)s', entry=…)`: the sentence is known, its values are put in when the page is made."""
        assert isinstance(node.node, nodes.Name)
        sentence = self.known["sentence"](*(one.value for one in node.args if isinstance(one, nodes.Const)))
        values = [nodes.Pair(nodes.Const(one.key), one.value, lineno=node.lineno) for one in node.kwargs]
        return nodes.Mod(
            nodes.Const(sentence, lineno=node.lineno), nodes.Dict(values, lineno=node.lineno), lineno=node.lineno
        )


#: Translations of one sentence, which may have values put into it.
_SENTENCES = frozenset({"_", "gettext"})


def as_written(text: str) -> Markup:
    """A translated sentence as Jinja's own gettext gives it: markup, with `%%` for a percent sign."""
    return Markup(text) % {}  # noqa: S704 - catalogues are part of the product, and templates have always trusted them

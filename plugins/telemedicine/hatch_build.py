"""Builds the C engine of the media worker along with the wheel, where a C compiler is; without one the wheel is pure Python."""

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NATIVE = Path("qanun_telemedicine", "sfu", "native")


class EngineBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling; an editable installation keeps the library beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("_native", Path(self.root) / _NATIVE / "__init__.py")
        assert spec is not None and spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native)
        try:
            library = native.build()
        except native.Unavailable as reason:
            self.app.display_warning(f"without the C engine: {reason}")
            return
        if version != "editable":
            build_data["force_include"][str(library)] = str(_NATIVE / library.name)
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"

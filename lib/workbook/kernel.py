"""The kernel of the notebooks: the Python that runs papermill, whatever kernels Jupyter finds.

Jupyter looks for the kernel `python3` along JUPYTER_PATH and in the user's folders first, and may find that of another Python, which
has no workbook. The entry point `papermill.engine` of this package makes papermill load this module, so that the command `papermill`
of the workbook's environment has the same kernel as the command `workbook`.
"""

from __future__ import annotations

from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from papermill.engines import NBClientEngine, papermill_engines
from traitlets import default


class OwnPython(AsyncKernelManager):
    """Starts `python3` in the Python that runs this; it looks into no folder of kernels."""

    @default("kernel_spec_manager")
    def _without_folders(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


class OwnPythonEngine(NBClientEngine):
    """papermill's usual engine; a kernel of any other name than `python3` is found as always."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *args: Any, **kwargs: Any) -> Any:
        """Execute the notebook of `nb_man` in the kernel of this name."""
        if kernel_name == NATIVE_KERNEL_NAME:
            kwargs.setdefault("kernel_manager_class", OwnPython)
        return super().execute_managed_notebook(nb_man, kernel_name, *args, **kwargs)


papermill_engines.register(None, OwnPythonEngine)  # the engine of a call that names none

"""The backbone workbook."""

import logging
import os
import warnings

from workbook.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()
# pydantic would read what every installed package registers, to find plugins of its own: a tenth of the time of `workbook --help`.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Words of other packages about themselves, which every notebook and command would begin with.
warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV will release", category=UserWarning)
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm.auto; the bars here need no widgets
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
for _name in ("torch.utils.cpp_extension", "timm"):  # no CUDA toolkit; classifier layers that a detector does not take
    logging.getLogger(_name).setLevel(logging.ERROR)

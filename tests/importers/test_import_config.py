"""The options of an import."""

import subprocess
import sys


def test_the_command_line_may_read_the_options_without_importing_torch() -> None:
    program = "import sys, adop.importers.import_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0

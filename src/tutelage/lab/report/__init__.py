"""The report of runs and studies: one self-contained HTML page, and a table for the terminal."""

from tutelage.lab.report.page import write_report
from tutelage.lab.report.terminal import terminal_table

__all__ = ["terminal_table", "write_report"]

"""How results are shown: tables, plots and the pages of reports."""

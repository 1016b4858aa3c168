"""Concurrent segmentation and localisation of surgical instruments (CSL).

Data flow: ``datasets`` or a camera -> ``networks`` -> ``heatmaps`` (decoding) -> ``tracker`` -> messages (``node``) ->
``evaluation``. Only ``node`` imports ROS.
"""

from csl_tracker.import_path import leave_out_working_directory, runs_a_program

__version__ = "0.2.0"

if runs_a_program():
    leave_out_working_directory()

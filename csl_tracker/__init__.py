"""Concurrent segmentation and localisation of surgical instruments (CSL).

The way of the data, and of the reader: ``datasets`` or a camera -> ``networks`` -> ``heatmaps`` (decoding) ->
``tracker`` -> messages (``node``) -> ``evaluation``. Nothing outside ``node`` imports ROS.
"""

__version__ = "0.1.0"

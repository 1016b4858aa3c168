"""Stereo localisation: from landmarks in two calibrated images (px) to poses in metres, without ROS.

:mod:`pairing` pairs results of the same moment, :mod:`matching` associates instruments and rejects outliers, :mod:`geometry`
triangulates, :mod:`orientation` computes poses from landmarks, :mod:`hand_eye` transforms them into an arm's frame.
"""

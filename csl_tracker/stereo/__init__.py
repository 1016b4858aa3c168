"""Two calibrated views of the same instruments: from landmarks in px to poses in metres. Nothing here knows ROS.

The way of the data: :mod:`pairing` finds the two sets of landmarks that belong to one moment, :mod:`matching` which
instrument is which and which landmarks may be believed, :mod:`geometry` triangulates, :mod:`orientation` makes a pose of an
instrument's landmarks, :mod:`hand_eye` carries it into the frame of an arm.
"""

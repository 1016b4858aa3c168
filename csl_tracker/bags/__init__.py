"""Bags without a ROS installation: write datasets and videos, read frames and poses."""

"""Bags: datasets and videos into bags, and bags into frames and poses, without a ROS installation."""

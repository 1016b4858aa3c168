"""The ROS shell: what turns messages into arrays and results into messages. Nothing else imports rclpy."""

from run_results import landmark_fixture, make_run, sequence_fixture  # noqa: F401

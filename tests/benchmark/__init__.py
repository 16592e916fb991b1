"""The parts of bench_training.py: what one process is asked, the sides, the models, the table."""

"""`python -m mili.bench throughput | serving`: how fast a model runs on this machine, offline and under load."""

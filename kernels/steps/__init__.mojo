"""Earlier versions of the kernels: the rungs of the ladders that the course climbs. The engine uses none of them."""

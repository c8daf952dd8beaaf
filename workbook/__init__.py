"""The course tooling: learner copies, checks, progress and figures."""

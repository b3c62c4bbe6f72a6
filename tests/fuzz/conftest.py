"""In the suite the fuzzers are short and always the same; `scripts/fuzz` lets them run for minutes."""

import hypothesis

hypothesis.settings.register_profile(
    "short",
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("short")

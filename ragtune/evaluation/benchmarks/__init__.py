"""General benchmarks through EleutherAI's harness: what tuning cost in general ability."""

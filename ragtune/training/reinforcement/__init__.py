"""Tuning on the model's own answers: rewards, PPO, GRPO and RLOO."""

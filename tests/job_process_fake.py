"""The process of a counting job."""

import job_fakes


def main():
    """Count."""
    from ragtune.server.jobs import process

    job_fakes.use()
    process.main()

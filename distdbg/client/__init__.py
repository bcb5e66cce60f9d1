"""The user's side: find the job, hold a session over all its ranks, ask, gather, merge. Never imports torch."""

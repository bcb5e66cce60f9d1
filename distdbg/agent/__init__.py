"""The rank's side: bootstrap (comes up), server (talks), engine (decides), parking (holds), evaluation (runs)."""

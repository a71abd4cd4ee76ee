"""Where jobs run: supervised child processes that outlive any one job, and their protocol."""

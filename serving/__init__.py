"""The local page and its HTTP API: uploads in memory, one thread that scores, guards against other sites and slow clients."""

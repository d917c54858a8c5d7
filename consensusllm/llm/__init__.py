"""Language models behind one small port (`port.Provider`): one file a provider.

`registry.make_provider` builds a provider from its settings, always behind `guard.Guarded`, which
owns time, size and retries; `auto.resolve` finds out what this machine has. Nothing here knows of
consensus, conversations or recording.
"""

"""The command `klinestream`, a file a group."""

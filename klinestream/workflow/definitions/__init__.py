"""The workflows that come with klinestream, a TOML file each."""

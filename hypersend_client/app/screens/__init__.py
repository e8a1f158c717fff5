"""One module a screen. No literal text, colour or size: words from `use_t()`, the rest from `tokens`."""

"""Voice conversion with disentangling variational auto-encoders."""

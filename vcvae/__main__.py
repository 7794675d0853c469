"""`python -m vcvae`, which is also what `accelerate launch -m vcvae train CONFIG` runs."""

from vcvae.cli import main

if __name__ == "__main__":
    main()

"""Command line."""


def main() -> None:
    raise SystemExit("adop: no commands yet")


if __name__ == "__main__":
    main()

"""What several tests share: small scenes, strategies, a browser, comparisons."""

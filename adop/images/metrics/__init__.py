"""Image metrics: PSNR, SSIM, FLIP, edge contrast, and what is compared after a correction of colours."""

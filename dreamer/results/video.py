"""Videos: saving frames as GIF or MP4, and the open-loop picture of truth, model and error."""

import io
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamer.results.files import replacing

GAP = 2  # pixels between the tiles of a grid, and around it
CONTEXT_COLOR = (0, 158, 115)  # green and vermilion of the Okabe-Ito palette, told apart by colour-blind eyes too
IMAGINED_COLOR = (213, 94, 0)
BACKGROUND = (255, 255, 255)


def open_loop_grid(truth: np.ndarray, model: np.ndarray, context: int = 5) -> np.ndarray:
    """Frames of the open-loop prediction: rows truth, model and error, one column per sequence.

    truth, model: [B, T, H, W, 3] float in [0, 1]; values outside are clipped. The error row shows
    (model - truth + 1) / 2, so that grey means right. The model's tiles are framed in green for the first
    `context` steps, where the model sees the images, and in vermilion afterwards, where it imagines.
    Returns [T, 3 * H + 4 * GAP, B * W + (B + 1) * GAP, 3] uint8. Raises ValueError for other shapes and for NaN.
    """
    truth, model = np.asarray(truth, np.float32), np.asarray(model, np.float32)
    if truth.shape != model.shape or truth.ndim != 5 or truth.shape[-1] != 3:
        raise ValueError(f"truth and model must both be [B, T, H, W, 3], got {truth.shape} and {model.shape}")
    for name, images in (("truth", truth), ("model", model)):
        if not np.isfinite(images).all():
            raise ValueError(f"{name} holds values that are not finite")
    batch, steps, height, width, _ = truth.shape
    rows = np.stack([truth, model, (model - truth + 1) / 2])
    rows = np.rint(255 * rows.clip(0, 1)).astype(np.uint8)
    grid = np.full((steps, 3 * height + 4 * GAP, batch * width + (batch + 1) * GAP, 3), BACKGROUND, np.uint8)
    band = slice(height + GAP, 2 * height + 3 * GAP)
    grid[:context, band] = CONTEXT_COLOR
    grid[context:, band] = IMAGINED_COLOR
    for row in range(3):
        top = GAP + row * (height + GAP)
        for column in range(batch):
            left = GAP + column * (width + GAP)
            grid[:, top : top + height, left : left + width] = rows[row, column]
    return grid


def label_rows(frames: np.ndarray, labels: list[str]) -> np.ndarray:
    """Frames with a margin at the left that names their rows, which are equally high.

    frames: [T, H, W, 3] uint8. Returns [T, H, W + margin, 3] uint8.
    """
    _check(frames)
    height = frames.shape[1]
    font = ImageFont.load_default(size=max(8, height // 30))
    margin = int(np.ceil(max(font.getlength(label) for label in labels))) + height // 30
    image = Image.new("RGB", (margin, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row, label in enumerate(labels):
        middle = (row + 0.5) * height / len(labels)
        draw.text((margin - height // 60, middle), label, fill=(40, 40, 40), font=font, anchor="rm")
    column = np.broadcast_to(np.asarray(image), (len(frames), height, margin, 3))
    return np.concatenate([column, frames], axis=2)


def upscale(frames: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel `factor` times in both directions. frames: [T, H, W, 3]."""
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def encode_gif(frames: np.ndarray, fps: float) -> bytes:
    """Animated GIF that repeats for ever. frames: [T, H, W, 3] uint8.

    GIF counts hundredths of a second, so that the time of a frame is cut to them; equal frames in a row are
    stored as one that is shown for longer.
    """
    _check(frames)
    file = io.BytesIO()
    imageio.mimwrite(file, frames, format="GIF", duration=1000 / fps, loop=0)
    return file.getvalue()


def save_gif(path: Path, frames: np.ndarray, fps: float, scale: int = 1) -> None:
    """Write an animated GIF in one step. frames: [T, H, W, 3] uint8, enlarged `scale` times."""
    content = encode_gif(upscale(_check(frames), scale), fps)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_mp4(path: Path, frames: np.ndarray, fps: float, scale: int = 1) -> None:
    """Write an H.264 video in one step that browsers play. frames: [T, H, W, 3] uint8, enlarged `scale` times.

    The pixel format that browsers ask for needs even sides: an odd last row or column is repeated once.
    """
    frames = upscale(_check(frames), scale)
    frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
    with replacing(path) as temporary:
        imageio.mimwrite(
            temporary,
            frames,
            format="FFMPEG",
            fps=fps,
            codec="libx264",
            pixelformat="yuv420p",
            macro_block_size=1,
            quality=None,
            output_params=["-crf", "17", "-movflags", "+faststart"],
        )


def _check(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be [T, H, W, 3] uint8 and not empty, got {frames.shape} {frames.dtype}")
    return frames

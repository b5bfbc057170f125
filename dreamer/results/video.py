"""Videos: saving frames as GIF or MP4, episodes side by side, and open-loop pictures of truth, model and error."""

import contextlib
import io
import itertools
import math
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamer.run.files import replacing

GAP = 2  # pixels between the tiles of a grid, and around it
CONTEXT_COLOR = (0, 158, 115)  # green and vermilion of the Okabe-Ito palette, told apart by colour-blind eyes too
IMAGINED_COLOR = (213, 94, 0)
BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)
_OUR_COLORS = (CONTEXT_COLOR, IMAGINED_COLOR, BACKGROUND, INK, (128, 128, 128))  # that a GIF shows as they are
_STAYS = 255  # the colour, no one's own, of a GIF's pixels that stay as they were
SUFFIXES = (".gif", ".mp4")  # that `save` knows
PAUSE = 12  # frames for which the last one of a prediction stays, before it begins again
_EPISODE_SECONDS, _SLOWEST, _FASTEST = 15, 5, 30  # how long an episode is shown, within these frames a second
_CAPTION = 32  # pixels of the line below an episode


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


def dream(
    truth: np.ndarray,
    model: np.ndarray,
    reward: np.ndarray,
    predicted: np.ndarray,
    *,
    starts: Iterable[int],
    title: str,
    names: Iterable[str] | None = None,
    context: int = 5,
) -> Iterator[np.ndarray]:
    """Frames of the open-loop prediction: `open_loop_grid`, enlarged and labelled, and the rewards of each sequence.

    truth, model: see `open_loop_grid`; reward, predicted: [B, T], drawn up to the step that is shown; starts: the step
    of its episode at which each sequence begins; names: what stands above each, "episode 1" and so on if not given. The
    last frame stays for PAUSE frames.
    Returns an iterator over [H, W, 3] uint8 of all T + PAUSE. Raises ValueError for other shapes and for NaN.
    """
    grid = open_loop_grid(truth, model, context)
    reward, predicted = np.asarray(reward, np.float32), np.asarray(predicted, np.float32)
    if not truth.shape[:2] == reward.shape == predicted.shape:
        raise ValueError(f"rewards must be {truth.shape[:2]}, got {reward.shape} and {predicted.shape}")
    if not (np.isfinite(reward).all() and np.isfinite(predicted).all()):
        raise ValueError("rewards hold values that are not finite")
    scale = min(3, max(1, round(720 / grid.shape[2])))
    height, width = scale * grid.shape[1], scale * grid.shape[2]
    names = [f"episode {column + 1}" for column in range(len(truth))] if names is None else list(names)
    empty, drawn, panel, xs = _page(
        height, width, scale * truth.shape[3], scale * GAP, reward, predicted, list(starts), title, names, context
    )

    def frame(step: int) -> np.ndarray:
        image = empty.copy()
        image[_TOP : _TOP + height, _LEFT : _LEFT + width] = upscale(grid[step : step + 1], scale)[0]
        for first, now in zip(xs[:, 0], xs[:, step], strict=True):
            image[panel, first:now] = drawn[panel, first:now]
            image[panel, now] = _CURSOR
        return image

    return (frame(min(step, len(grid) - 1)) for step in range(len(grid) + PAUSE))


# Pixels around the enlarged grid of `dream`: the panels of rewards and what surrounds them.
_LEFT, _RIGHT, _TOP, _PANEL_GAP, _PANEL, _BOTTOM, _LEAST_WIDTH = 80, 14, 104, 10, 96, 48, 500
_CURSOR = (150, 150, 150)


def _page(
    height: int,
    width: int,
    tile: int,
    gap: int,
    reward: np.ndarray,
    predicted: np.ndarray,
    starts: list[int],
    title: str,
    names: list[str],
    context: int,
) -> tuple[np.ndarray, np.ndarray, slice, np.ndarray]:
    """Everything around the grid of `dream`, [H, W, 3], without and with the lines of the rewards.

    Also returns the rows of the panels as a slice, and the column at which each step lies in its panel, [B, T] int.
    """
    # Here, because it takes a while, and most of what imports this module draws no page.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    page_width = max(_LEFT + width + _RIGHT, _LEAST_WIDTH)
    page_height = _TOP + height + _PANEL_GAP + _PANEL + _BOTTOM
    figure = Figure(figsize=(page_width / 100, page_height / 100), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    ink, seen, imagined = (
        (red / 255, green / 255, blue / 255) for red, green, blue in (INK, CONTEXT_COLOR, IMAGINED_COLOR)
    )
    # Large, because on a phone, or in two columns of a page, there is half of this width.
    text = {"fontsize": 11.5, "color": ink}

    def write(x: float, y: float, label: str, **kwargs: Any) -> None:
        figure.text(x / page_width, 1 - y / page_height, label, va="center", **{**text, **kwargs})

    imagined_steps = reward.shape[1] - context
    write(_LEFT + gap, 18, title, fontsize=12, weight="bold")
    figure.legend(
        handles=[
            Line2D([], [], color=seen, marker="s", linestyle="", markersize=7, label=f"sees {context} images,"),
            Line2D(
                [], [], color=imagined, marker="s", linestyle="", markersize=7, label=f"then imagines {imagined_steps}"
            ),
            Line2D([], [], color=ink, linewidth=1.6, label="true reward"),
            Line2D([], [], color=imagined, linewidth=1.6, label="predicted"),
        ],
        loc="center left",
        bbox_to_anchor=((_LEFT + gap) / page_width, 1 - 54 / page_height),
        ncols=2,
        frameon=False,
        fontsize=11.5,
        labelcolor=[ink],
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=1.4,
        borderpad=0,
        borderaxespad=0,
    )
    middles = [_TOP + gap + row * (tile + gap) + tile / 2 for row in range(3)]
    top = _TOP + height + _PANEL_GAP
    for name, middle in zip(("truth", "model", "error"), middles, strict=True):
        write(_LEFT - 6, middle, name, ha="right")
    write(_LEFT - 6, middles[-1] + 17, "grey: none", ha="right", fontsize=9)
    low, high = min(0.0, reward.min(), predicted.min()), max(reward.max(), predicted.max())
    room = 0.08 * max(high - low, 0.1)
    lines, steps, wide = [], np.arange(reward.shape[1]), tile > 100
    xs = np.empty(reward.shape, int)
    for column, (start, name) in enumerate(zip(starts, names, strict=True)):
        left = _LEFT + gap + column * (tile + gap)
        write(left + tile / 2, _TOP - 10, name, ha="center", fontsize=11.5 if wide else 8)
        axes = figure.add_axes(
            (left / page_width, 1 - (top + _PANEL) / page_height, tile / page_width, _PANEL / page_height)
        )
        axes.axvspan(start, start + context - 1, color=seen, alpha=0.15, linewidth=0)
        axes.set(xlim=(start, start + steps[-1]), ylim=(low - room, max(high, low + 0.1) + room))
        axes.grid(color="#e8e8e8", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, prune="upper"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(
            labelsize=9.5 if wide else 7.5, color="#999999", labelcolor=ink, length=3, labelleft=column == 0
        )
        for name, spine in axes.spines.items():
            spine.set(visible=name in ("left", "bottom"), edgecolor="#999999")
        # The prediction is green where the model still sees, as the frame of its picture is.
        lines += axes.plot(start + steps, reward[column], color=ink, linewidth=1.6)
        for color, part in ((seen, slice(0, context)), (imagined, slice(context - 1, None))):
            lines += axes.plot(
                start + steps[part], predicted[column, part], color=color, linewidth=1.6, solid_capstyle="butt"
            )
        points = axes.transData.transform(np.stack([start + steps, np.zeros(len(steps))], 1))
        xs[column] = np.rint(points[:, 0]).clip(left, left + tile - 1)
    write(_LEFT + gap - 46, top + _PANEL / 2, "reward", ha="right", rotation=90)
    write(_LEFT + gap + (width - 2 * gap) / 2, page_height - 12, "step of the episode", ha="center")

    def render(visible: bool) -> np.ndarray:
        for line in lines:
            line.set_visible(visible)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    return render(False), render(True), slice(top, top + _PANEL), xs


def episode(images: np.ndarray, reward: np.ndarray, side: int = 512) -> Iterator[np.ndarray]:
    """Frames of one episode at a size that can be watched, with the step and the return so far below.

    images: [L, H, W, 3] uint8, shown `side` pixels wide and high; reward: [L].
    Returns an iterator over [side + _CAPTION, side, 3] uint8 of all L.
    """
    returns = np.cumsum(reward, dtype=np.float64)
    font = ImageFont.load_default(size=20)

    def frame(step: int) -> np.ndarray:
        page = Image.new("RGB", (side, side + _CAPTION), BACKGROUND)
        # Smoothed: eight times as large, the squares of single pixels are all that one would see.
        page.paste(Image.fromarray(images[step]).resize((side, side), Image.Resampling.BICUBIC))
        draw, middle = ImageDraw.Draw(page), side + _CAPTION // 2
        draw.text((8, middle), f"step {step}", fill=INK, font=font, anchor="lm")
        draw.text((side - 8, middle), f"return {returns[step]:.1f}", fill=INK, font=font, anchor="rm")
        return np.asarray(page)

    return (frame(step) for step in range(len(images)))


def episode_fps(steps: int) -> float:
    """Frames a second at which an episode of so many steps takes about 15 s, whatever the action repeat; 5 to 30."""
    return min(max(steps / _EPISODE_SECONDS, _SLOWEST), _FASTEST)


def side_by_side(episodes: list[np.ndarray], rewards: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames of episodes that play at the same time, each with its return so far below it; one that is over goes pale.

    episodes: [L, H, W, 3] uint8 each, of any lengths; rewards: [L] each. Returns an iterator over [H, W, 3] uint8.
    """
    columns = math.ceil(math.sqrt(len(episodes) * 16 / 9)) if len(episodes) > 1 else 1
    scale = 4 if len(episodes) == 1 else 3
    caption, gap = 22, 8
    height, width = (scale * side for side in episodes[0].shape[1:3])
    rows = -(-len(episodes) // columns)
    returns = [np.cumsum(reward, dtype=np.float64) for reward in rewards]
    font = ImageFont.load_default(size=13)

    def frame(step: int) -> np.ndarray:
        shape = (rows * (height + caption) + (rows + 1) * gap, columns * (width + gap) + gap, 3)
        image = np.full(shape, BACKGROUND, np.uint8)
        captions = []
        for index, (images, total) in enumerate(zip(episodes, returns, strict=True)):
            over, now = step >= len(images), min(step, len(images) - 1)
            top, left = gap + index // columns * (height + caption + gap), gap + index % columns * (width + gap)
            picture = upscale(images[now : now + 1], scale)[0]
            image[top : top + height, left : left + width] = picture // 2 + 127 if over else picture
            captions.append((left, top + height + caption // 2, f"{index + 1}", "lm"))
            captions.append((left + width, top + height + caption // 2, f"return {total[now]:.1f}", "rm"))
        image = Image.fromarray(image)
        draw = ImageDraw.Draw(image)
        for x, y, label, anchor in captions:
            draw.text((x, y), label, fill=INK, font=font, anchor=anchor)
        return np.asarray(image)

    return (frame(step) for step in range(max(map(len, episodes))))


def upscale(frames: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel `factor` times in both directions. frames: [T, H, W, 3]."""
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def encode_gif(frames: np.ndarray, fps: float) -> bytes:
    """Animated GIF that repeats for ever. frames: [T, H, W, 3] uint8.

    GIF counts hundredths of a second, so that the time of a frame is cut to them. All frames share one palette: with
    one for each frame, as imageio writes them, the file is twice as large and a colour of few pixels is another one in
    every frame. Pixels that stay as they were are stored as transparent, which saves a third.
    """
    _check(frames)
    sample = frames[np.linspace(0, len(frames) - 1, min(16, len(frames))).astype(int)]
    colors = Image.fromarray(sample.reshape(-1, *frames.shape[2:])).quantize(
        255 - len(_OUR_COLORS), Image.Quantize.FASTOCTREE
    )
    chosen = (colors.getpalette() or [])[: 3 * (255 - len(_OUR_COLORS))]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*chosen, *itertools.chain(*_OUR_COLORS)])
    images, before = [], None
    for frame in frames:
        indices = np.asarray(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE))
        image = Image.fromarray(indices if before is None else np.where(indices == before, np.uint8(_STAYS), indices))
        image.putpalette(palette.getpalette() or [])
        images.append(image)
        before = indices
    file = io.BytesIO()
    times = {"duration": 1000 / fps, "loop": 0}
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], optimize=False, transparency=_STAYS, disposal=1, **times
    )
    return file.getvalue()


def save_gif(path: Path, frames: np.ndarray, fps: float, scale: int = 1) -> None:
    """Write an animated GIF in one step. frames: [T, H, W, 3] uint8, enlarged `scale` times."""
    content = encode_gif(upscale(_check(frames), scale), fps)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_mp4(path: Path, frames: Iterable[np.ndarray], fps: float, scale: int = 1) -> None:
    """Write an H.264 video in one step that browsers play. frames: [H, W, 3] uint8 each, enlarged `scale` times.

    One frame at a time is enlarged and encoded, so that long videos need no memory. The pixel format that browsers ask
    for needs even sides: an odd last row or column is repeated once. Raises ValueError for other frames, and for none.
    """
    frames = (_check(frame[None]) for frame in frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames must be [T, H, W, 3] uint8 and not empty, got none")
    with replacing(path) as temporary:
        writer = imageio.get_writer(
            temporary,
            format="FFMPEG",
            fps=fps,
            codec="libx264",
            pixelformat="yuv420p",
            macro_block_size=1,
            ffmpeg_log_level="fatal",  # What it cannot write is found out below, and told in one line.
            quality=None,
            output_params=["-crf", "17", "-movflags", "+faststart"],
        )
        # Not the writer's own `with`: it leaves ffmpeg writing after an error.
        with contextlib.closing(writer):
            for frame in itertools.chain([first], frames):
                frame = upscale(frame, scale)[0]
                frame = np.pad(frame, [(0, len(frame) % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
                try:
                    writer.append_data(frame)
                except OSError:  # ffmpeg has ended
                    break
        # The writer does not tell how ffmpeg ended: on a full disk, for instance, with half of a video.
        if not _is_whole(temporary):
            raise OSError(f"{path}: the video could not be written: is the disk full?")


def _is_whole(path: Path) -> bool:
    """Whether a file consists of the boxes of an MP4, with the pictures and their index among them, and no rest."""
    found, size = set(), path.stat().st_size if path.exists() else 0
    with path.open("rb") if size else io.BytesIO() as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            if length < 8:
                break
            found.add(kind)
            at += length
    return size > 0 and at == size and {b"moov", b"mdat"} <= found


def save(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write a GIF or an MP4, by the suffix of `path`. frames: [H, W, 3] uint8 each."""
    if path.suffix == ".mp4":
        save_mp4(path, frames, fps)
    elif path.suffix == ".gif":
        save_gif(path, np.stack(list(frames)), fps)
    else:
        raise ValueError(f"{path}: a video can be {' or '.join(SUFFIXES)}")


def _check(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be [T, H, W, 3] uint8 and not empty, got {frames.shape} {frames.dtype}")
    return frames

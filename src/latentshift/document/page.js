// Pauses and plays the clips that can be seen; a page is whole without it.
const clips = [...document.querySelectorAll('video')], button = document.getElementById('play');
let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches;
const set = clip => {
  if (playing && !clip.closest('details:not([open])')) clip.play().catch(() => {}); else clip.pause();
};
const apply = () => {
  clips.forEach(set);
  button.textContent = playing ? 'Pause all clips' : 'Play all clips';
};
for (const clip of clips) clip.onclick = () => { if (clip.paused) clip.play(); else clip.pause(); };
for (const fold of document.querySelectorAll('details')) fold.ontoggle = () => fold.querySelectorAll('video').forEach(set);
// What a link leads to may be folded away.
const reveal = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let fold = target && target.closest('details'); fold; fold = fold.parentElement.closest('details')) fold.open = true;
  if (target) target.scrollIntoView();
};
addEventListener('hashchange', reveal);
for (const link of document.querySelectorAll('a[href^="#"]')) link.addEventListener('click', () => setTimeout(reveal));
button.onclick = () => { playing = !playing; apply(); };
if (clips.length) { button.hidden = false; apply(); }

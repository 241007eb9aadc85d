(() => {
  const byId = (id) => document.getElementById(id);
  // At once, not by the browser's own stream: figures are there when the page has loaded, as a
  // screenshot finds it.
  const unpack = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const size = new DataView(bytes.buffer).getUint32(bytes.length - 4, true);
    return new TextDecoder().decode(module.exports(bytes.subarray(10), new Uint8Array(size)));
  };
  const contents = document.querySelector('nav > details');
  // A frame may have no width yet when this runs (MLflow shows pages in one): its contents open
  // when it has. Where the page is wide there is no summary to open them with.
  const wide = window.matchMedia('(min-width: 901px)');
  const openContents = () => { if (contents) contents.open = wide.matches; };
  openContents();
  wide.addEventListener('change', openContents);
  for (const link of document.querySelectorAll('nav a')) {
    link.addEventListener('click', (event) => {
      event.preventDefault();
      byId(link.getAttribute('href').slice(1)).scrollIntoView();
    });
  }
  const plots = [...document.querySelectorAll('.plot')];
  const fail = (plot, error) => {
    plot.textContent = 'This figure could not be drawn: ' + error.message;
    console.error(plot.id, error);
  };
  // A figure that is wider than the page is made smaller: nothing scrolls sideways.
  const fit = (plot) => {
    const figure = plot.closest('figure');
    const [width, height] = [plot.dataset.width, plot.dataset.height].map(Number);
    const room = (figure.closest('.figures') || figure.parentElement).clientWidth;
    const scale = Math.min(1, room / width);
    plot.style.transform = scale < 1 ? `scale(${scale})` : '';
    plot.style.marginBottom = scale < 1 ? `${height * (scale - 1)}px` : '';
    plot.style.marginRight = scale < 1 ? `${width * (scale - 1)}px` : '';
    figure.style.width = `${Math.floor(width * scale)}px`;
  };
  const fitAll = () => plots.forEach(fit);
  fitAll();
  window.addEventListener('resize', fitAll);
  window.addEventListener('beforeprint', () => plots.forEach((plot) => {
    plot.style.transform = plot.style.marginBottom = plot.style.marginRight = '';
    plot.closest('figure').style.width = `${plot.dataset.width}px`;
  }));
  window.addEventListener('afterprint', fitAll);
  try {
    const library = document.createElement('script');
    library.textContent = unpack(byId('plotly').textContent);
    document.head.append(library);
  } catch (error) {
    plots.forEach((plot) => fail(plot, error));
    return;
  }
  const config = {
    displaylogo: false, typesetMath: false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
  };
  const draw = (plot) => {
    const spec = JSON.parse(unpack(byId(plot.id + '-data').textContent));
    const options = { ...config, toImageButtonOptions: { format: 'svg', filename: plot.id } };
    return Plotly.newPlot(plot, spec.data, spec.layout, options).catch((error) => fail(plot, error));
  };
  const seen = plots.filter((plot) => plot.getBoundingClientRect().top < window.innerHeight);
  const rest = plots.filter((plot) => !seen.includes(plot));
  const first = seen.map(draw);
  window.addEventListener('load', async () => {
    await Promise.all(first);
    for (const plot of rest) {
      await new Promise((done) => setTimeout(done, 0));
      await draw(plot);
    }
    document.body.dataset.drawn = String(plots.length);
  });
})();

(async () => {
  const byId = (id) => document.getElementById(id);
  const pause = () => new Promise((done) => setTimeout(done, 0));
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Response(stream).text();
  };
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
  try {
    const library = document.createElement('script');
    library.textContent = await unpack(byId('plotly').textContent);
    document.head.append(library);
  } catch (error) {
    plots.forEach((plot) => fail(plot, new Error('a browser of 2023 or later is needed')));
    return;
  }
  const config = {
    displaylogo: false, typesetMath: false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
  };
  for (const plot of plots) {
    const spec = JSON.parse(byId(plot.id + '-data').textContent);
    const options = { ...config, toImageButtonOptions: { format: 'svg', filename: plot.id } };
    try {
      await Plotly.newPlot(plot, spec.data, spec.layout, options);
    } catch (error) {
      fail(plot, error);
    }
    await pause();
  }
  document.body.dataset.drawn = String(plots.length);
})();

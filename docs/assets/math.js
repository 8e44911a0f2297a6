// formulas are set when a page has loaded, also after instant navigation
document$.subscribe(({ body }) => renderMathInElement(body, {
  delimiters: [
    { left: "\\[", right: "\\]", display: true },
    { left: "\\(", right: "\\)", display: false },
  ],
}))

package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"app-offload/cmd/app-offload/internal/dashboard"
)

// prometheus answers a scrape.
func (a *api) prometheus(c echo.Context) error {
	a.metrics.ServeHTTP(c.Response(), c.Request())
	return nil
}

// ui is the page.
func (a *api) ui(c echo.Context) error { return a.page.ServePage(c.Response(), c.Request()) }

// uiData is what the page asks for every two seconds.
func (a *api) uiData(c echo.Context) error {
	q := dashboard.Query{
		Target: c.QueryParam("target"), Class: c.QueryParam("class"), Device: c.QueryParam("device"), Policy: c.QueryParam("policy"),
	}
	if err := checkFilters(c); err != nil {
		return fail(c, http.StatusBadRequest, "%v", err)
	}
	if c.QueryParams().Has("since") {
		text := c.QueryParam("since")
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fail(c, http.StatusBadRequest, "since = %q: must be the number of a point, or 0 for all of the history", text)
		}
		q.Since = n
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, a.page.Data(time.Now(), q))
}

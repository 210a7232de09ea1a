"""The grid of the datasets: coordinates, months of the noleap calendar, and the parts of it that questions ask for."""

import cftime
import numpy as np

UNITS = {"units": "days since 2000-01-01", "calendar": "noleap"}


class Grid:
    """The coordinates depend on the size alone; the parts are index ranges, so that every library can take them."""

    def __init__(self, small):
        self.small = small
        self.days, self.lats, self.lons = (1460, 96, 144) if small else (3650, 192, 288)
        self.side = 100 if small else 500
        self.time = np.arange(self.days) + 0.5
        self.lat = np.linspace(-90, 90, self.lats)
        self.lon = np.arange(self.lons) * 360.0 / self.lons
        self.dates = cftime.num2date(self.time, **UNITS)
        self.month = np.array([date.month for date in self.dates])
        self.weights = np.cos(np.radians(self.lat))

        self.year = slice(3 * 365, 4 * 365)  # 2003
        self.band = within(self.lat, -30, 30)
        self.box = within(self.lat, 40, 50), within(self.lon, 5, 15)
        self.point = int(np.abs(self.lat - 50.6).argmin()), int(np.abs(self.lon - 15).argmin())
        starts = np.flatnonzero((self.month == 7) & (np.roll(self.month, 1) == 6))
        self.julys = [slice(int(start), int(start) + 31) for start in starts]

    def part(self, name):
        """The slices of (time, lat, lon) that a part consists of."""
        every = slice(None)
        i, j = self.point
        return {
            "everything": [(every, every, every)],
            "year": [(self.year, self.band, every)],
            "julys": [(july, every, every) for july in self.julys],
            "point": [(every, slice(i, i + 1), slice(j, j + 1))],
            "box": [(every, *self.box)],
            "corner": [(slice(0, 2), slice(4, 6), slice(7, 9))],
        }[name]


def within(values, low, high):
    """The indices of the ascending `values` in [low, high]."""
    return slice(int(np.searchsorted(values, low)), int(np.searchsorted(values, high, "right")))

"""Code with lines to stop at; found by their marks."""

import asyncio


class Base:
    limit = 3  # @class-body

    def scale(self, x):
        """Double it."""
        return x * 2  # @base


class Child(Base):
    def scale(self, x):  # @def
        y = super().scale(x)  # @super
        # a comment  @comment
        return (
            y + 1  # @middle
        )

    @staticmethod
    def plain(x):
        total = 0
        for i in range(x):
            total += i  # @loop
        return total

    @property
    def shown(self):
        return self.__class__.__name__  # @property


def make(n):
    def inner(x):
        return x + n  # @inner

    return inner  # @outer


def produce(n):
    for i in range(n):
        yield i + 0  # @yield


async def wait(n):
    await asyncio.sleep(0)
    return n  # @async


def squares(n):
    return [i * i for i in range(n)]  # @comprehension


def count(n):
    while n > 0:  # @while
        n -= 1
    return n


def branch(x):
    if x > 0:
        sign = 1
    elif x < 0:  # @elif
        sign = -1
    else:
        sign = 0  # @else
    try:
        return 1 / sign
    except ZeroDivisionError:
        return None  # @except


def run_long(step, n):
    seen = []
    for i in range(n):
        step(i)
        seen.append(i)  # @running
    return seen


shift = make(5)
